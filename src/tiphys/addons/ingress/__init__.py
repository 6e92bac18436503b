"""HTTP from outside to Services, by Ingress and Gateway API's HTTPRoute, over haproxy."""
