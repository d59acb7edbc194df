"""The average of VAEImputer, and its boosted trees."""
