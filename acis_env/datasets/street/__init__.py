"""The parts of a drawn street: camera, light, cars, traffic, ground and what stands beside the road."""
