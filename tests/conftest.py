"""What all tests may ask for: the real servers of `tests.stack`, started when the first test asks for them."""

pytest_plugins = ("tests.stack",)
