"""Level-based foraging, batched in torch: players collect food that may need several of them."""
