"""The endpoint slice controller: for each Service, EndpointSlices of at most a hundred endpoints each."""
