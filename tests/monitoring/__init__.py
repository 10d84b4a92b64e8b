"""What SREs install: rules, alerts, dashboards, held against a real Prometheus."""
