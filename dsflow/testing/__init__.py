"""Tests of jobs: small inputs, the real job on a throwaway datastore, and a verdict that names each difference."""
