"""Export: what other systems are given to watch a fleet with: Prometheus, Grafana, OpenTelemetry."""
