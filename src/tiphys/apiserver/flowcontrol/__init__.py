"""API priority and fairness: which request runs now, which waits in which queue, and which is turned away.

A request's flow schema names its priority level. A level has seats, and queues for the flows that wait for one; levels
lend and borrow seats. Sources: KEP-1040 and https://kubernetes.io/docs/concepts/cluster-administration/flow-control/
"""
