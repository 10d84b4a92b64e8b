"""What is served over HTTP: consent endpoints, the page, health and metrics."""
