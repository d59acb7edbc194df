"""The VAE with a member axis, and the mixture that VAEDensity starts from."""
