"""The deployment controller: rolls a Deployment's template out, by scaling ReplicaSets up and down."""
