"""The rate limit service of a node: token buckets, quotas and leases, in memory or in a Redis that machines share."""
