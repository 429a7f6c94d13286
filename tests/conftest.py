"""The Hypothesis profile of the edit loop: `pytest --hypothesis-profile=fast` tries a tenth of the examples."""

from hypothesis import settings

settings.register_profile("fast", max_examples=10)
