"""Systems of others that keep tokens, as far as the recipes in `deploy/recipes` read them."""
