"""The node with shorter waits: what it replaces in Flower is still what Flower uses."""

import subprocess
import sys
import time

import pytest
from flwr.supercore.superexec import run_superexec
from flwr.supercore.superexec.executor import subprocess_executor
from flwr.supernode import start_client_internal

from federation import node


def test_flower_waits_and_starts_programs_by_the_names_that_are_replaced():
    assert start_client_internal.time is time
    assert run_superexec.time is time
    assert start_client_internal.subprocess is subprocess
    assert subprocess_executor.subprocess is subprocess


@pytest.mark.parametrize("program", ["flower-supernode", "/bin/flower-superexec"])
def test_the_programs_have_flowers_own_command_lines(program):
    command = [sys.executable, "-P", node.__file__, program, "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)

    assert "usage: flower-super" in shown.stdout
