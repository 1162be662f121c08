"""What every room stands on: files, checks of arguments, JAX's switches. No science."""
