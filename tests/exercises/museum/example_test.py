"""An answer, as an example: the test that tells the bug `never_resumed` from the sound part 4.

python tests/exercises/exercise.py museum never_resumed tests/exercises/museum/example_test.py
"""

import time

import pytest

from support.peers import SMALL_BUFFER, StreamingBackend

pytestmark = pytest.mark.behaviour("hard use")  # by this mark the test gets your proxy, see tests/conftest.py


def test_a_download_goes_on_when_the_client_does(start_proxy):
    """A client pauses until the proxy has had to stop reading the backend; then it wants the rest."""
    count = 8_000_000  # bytes; the kernel's queues and the write buffer together hold about half of that
    with StreamingBackend(count) as backend, start_proxy(backend).connect(receive_buffer=SMALL_BUFFER) as client:
        client.send(b"8 MB, please")
        time.sleep(0.5)
        client.receive_pattern(count)
        client.expect_end()
