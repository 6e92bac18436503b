"""What every controller is made of: work queue, reconcile loop, events, leader election, adoption, expectations."""
