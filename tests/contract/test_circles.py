"""No module of the suite imports itself by way of others, also where the linter looks at packages only."""

from graphlib import CycleError, TopologicalSorter

import grimp
import pytest

PACKAGES = (
    "trunkline_words", "trunkline_runtime", "trunkline_store", "trunkline_work", "trunkline_jobs", "trunkline_gateway",
    "trunkline_tenant", "trunkline_audio", "trunkline_ai", "trunkline_cli",
)  # fmt: skip


def test_no_module_imports_itself_by_way_of_others():
    graph = grimp.build_graph(*PACKAGES, exclude_type_checking_imports=True, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) - {module} for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' <- '.join(error.args[1])}")
    assert len(imports) > 400
