"""The training process does not know its viewers: it opens no socket, and loads nothing that could serve a page."""

import subprocess
import sys
import textwrap

TRAIN = textwrap.dedent("""
    import sys
    heard = []
    sys.addaudithook(lambda name, arguments: heard.append(name) if name.startswith("socket.") else None)
    import torch
    from torch import nn
    import auscult
    del heard[:]  # what importing torch does is not ours
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with auscult.watch(model, optimizer, sys.argv[1]) as monitor:
        for step in range(200):
            loss = model(torch.randn(8, 4)).square().mean() * (float("nan") if step == 150 else 1.0)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            monitor.log(loss=loss)
    print([each for each in heard if each != "socket.gethostname"])
    print(sorted(each for each in sys.modules if each.startswith(("auscult.live", "starlette", "uvicorn"))))
""")


def test_a_watched_training_opens_no_socket_and_loads_no_server(tmp_path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", TRAIN, str(tmp_path / "run")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["[]", "[]"]
