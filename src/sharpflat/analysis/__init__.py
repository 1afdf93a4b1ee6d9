"""From runs to the tidy tables behind the figures."""
