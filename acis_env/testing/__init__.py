"""Checks that an environment keeps the contracts of Gymnasium's vector environments."""

from acis_env.testing.checker import VectorEnvError, check_vector_env

__all__ = ["VectorEnvError", "check_vector_env"]
