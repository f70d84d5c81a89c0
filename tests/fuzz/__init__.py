"""Bad input, made faster than a property test makes it: generators, properties, and programs that run for long."""
