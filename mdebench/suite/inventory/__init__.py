"""What there is: methods counted, settings shown, runs compared and cleared away, files held to the contract."""
