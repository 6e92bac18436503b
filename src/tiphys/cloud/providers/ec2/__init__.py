"""EC2 as a cloud: its machines, network load balancers and route tables, by boto3.

Names, tags and the form of provider ids are those of upstream's AWS provider, so that either finds what the other made.

Source: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/, and
https://cloud-provider-aws.sigs.k8s.io/
"""
