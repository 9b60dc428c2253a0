"""Show what differs, in helpers too."""

import pytest

pytest.register_assert_rewrite("tests.passes.rewriting", "gcompile.testing")
