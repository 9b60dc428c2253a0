"""A Ray cluster of two nodes on this machine measures what one process measures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

ray = pytest.importorskip("ray", reason="Ray is not installed: make check-ray")

from gcompile.compiler.sweep import sensitivity  # noqa: E402
from gcompile.compiler.workers import RayCluster  # noqa: E402
from gcompile.errors import RunError  # noqa: E402
from tests.compiler.task import task  # noqa: E402

pytestmark = [pytest.mark.ray, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """The head of a cluster of two nodes."""
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster.address
    ray.shutdown()
    cluster.shutdown()


def test_two_nodes_measure_what_one_process_measures(address: str, tmp_path: Path) -> None:
    alone = sensitivity(task().model, calib=task().calib, cache=tmp_path / "alone")
    spread = sensitivity(
        task().model, calib=task().calib, cache=tmp_path / "spread", workers=address
    )
    assert RayCluster(address).count() == 2
    assert spread == alone


def test_a_cluster_that_is_not_there_is_a_sentence() -> None:
    ray.shutdown()
    with pytest.raises(RunError, match="cannot be reached"):
        RayCluster("ray://127.0.0.1:1").count()
