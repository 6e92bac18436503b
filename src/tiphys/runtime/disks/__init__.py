"""Files as disks: made, grown, copied, given to loop devices, with what is known of each beside it."""
