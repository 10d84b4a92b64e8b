"""What is measured side by side: Evergrant, a loop without safety, and what a user would write."""
