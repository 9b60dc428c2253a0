from __future__ import annotations

from threadpoolctl import threadpool_info

from gcompile.compiler.one_thread import blas_on_one_thread


def blas_threads() -> list[int]:
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def test_blas_gets_its_threads_back() -> None:
    before = blas_threads()
    with blas_on_one_thread():
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before
