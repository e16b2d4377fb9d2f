"""A worker: claims tasks, runs each as an attempt, keeps their leases."""
