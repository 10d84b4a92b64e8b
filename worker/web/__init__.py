"""What is served over HTTP: the JSON API, consent endpoints, the page, health and metrics."""
