"""NodeRestriction: what a node may write, rule by rule; which audiences its tokens have; which labels are its own."""
