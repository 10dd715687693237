"""The models a broker serves: what is asked for (spec), what is loaded (model), all of them (repository)."""
