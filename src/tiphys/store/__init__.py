"""The cluster's memory: etcd's data model, an embedded durable engine, etcd's API, and real etcd behind one seam."""
