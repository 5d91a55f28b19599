"""An agent that is killed: what it leaves behind, and what the next one makes of it. Ends the agent that all share."""

from __future__ import annotations

from kaito.testing import eventually
from tests.operating.process_agent import POLITE, Agent, Pods, main, ready


async def test_a_killed_agent_leaves_no_process_and_the_next_one_takes_up_its_pods(agent: Agent, pods: Pods) -> None:
    work = [{"name": "work", "emptyDir": {"medium": "Memory"}}]
    await pods.create("one", pods.spec("sh", "-c", f"setsid sleep 60 & touch /scratch/one; {POLITE}", volumes=work))
    await pods.create("two", pods.spec("sh", "-c", POLITE, restartPolicy="Never"))
    before = await pods.until("one", ready)
    await pods.until("two", ready)
    memory = (agent.directory / "pods" / before.metadata.uid / "volumes" / "work").resolve()
    await eventually((memory / "one").exists)
    orphan = agent.directory / "pods" / "deleted-meanwhile"
    orphan.mkdir()
    agent.kill()
    await eventually(lambda: not agent.processes())
    await eventually(lambda: not memory.exists())
    agent.start()
    pod = await pods.until("one", lambda pod: ready(pod) and main(pod).restart_count == 1)
    ended = main(pod).last_state.terminated
    assert ended is not None
    assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
    assert pod.status.pod_ip == before.status.pod_ip
    pod = await pods.until("two", lambda pod: pod.status.phase == "Failed")
    assert main(pod).restart_count == 0
    assert not orphan.exists()
    await eventually((memory / "one").exists)
    agent.stop()  # for good: this is the last of the tests that share it
    assert not memory.parent.parent.exists()
