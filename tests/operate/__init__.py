"""What operators read and apply: metrics, alerts, dashboards, manifests."""
