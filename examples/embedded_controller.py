"""A controller of your own on kaito's runtime: a Website serves the pages of a ConfigMap, and follows their changes.

python embedded_controller.py crds | kubectl apply -f -
python embedded_controller.py run --log-format console    # as whom kubectl acts; in a cluster as its ServiceAccount
python embedded_controller.py rbac --service-account web/websites | kubectl apply -f -    # what that one needs
"""

import hashlib
import json
from typing import Annotated, ClassVar, Unpack

from kaito.client import Client, Config, NotFound, merge_patch
from kaito.kube import AGE, ConfigMap, CRDOptions, Deployment, KubeModel, Limits, ObjectKey, PrinterColumn, Resource
from kaito.runtime import DONE, Applier, Controller, Manager, ManagerOptions, Result, Watch, run_program


class WebsiteSpec(KubeModel):
    pages: Annotated[str, Limits(min_length=1)]  # a ConfigMap in the same namespace
    replicas: Annotated[int, Limits(minimum=0, maximum=10)] = 1


class WebsiteStatus(KubeModel):
    ready_replicas: int = 0
    message: str = ""


class Website(Resource, group="web.example.com", version="v1"):
    spec: WebsiteSpec
    status: WebsiteStatus = WebsiteStatus()
    crd: ClassVar[CRDOptions] = CRDOptions(
        columns=(
            PrinterColumn("Ready", ".status.readyReplicas", "integer"),
            PrinterColumn("Message", ".status.message"),
            AGE,
        )
    )


class WebsiteReconciler:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._applier = Applier(client)

    async def reconcile(self, site: Website) -> Result:
        try:
            pages = await self._client.get(ConfigMap, ObjectKey(site.spec.pages, site.metadata.namespace))
        except NotFound:
            missing = f"create the ConfigMap {site.spec.pages}"
            return await self._report(site, WebsiteStatus(ready_replicas=0, message=missing))
        deployment = (await self._applier.apply(servers(site, pages), owner=site)).object
        return await self._report(site, WebsiteStatus(ready_replicas=deployment.status.ready_replicas))

    async def _report(self, site: Website, status: WebsiteStatus) -> Result:
        if status != site.status:
            await self._client.status.patch(Website, site.key, {"status": merge_patch(site.status, status)})
        return DONE


def servers(site: Website, pages: ConfigMap) -> Deployment:
    labels = {"website": site.metadata.name}
    digest = hashlib.sha256(json.dumps(dict(pages.data), sort_keys=True).encode()).hexdigest()  # new pages, new pods
    volume = {"name": "pages", "configMap": {"name": site.spec.pages}}
    mount = {"name": "pages", "mountPath": "/usr/share/nginx/html"}
    pod = {"volumes": [volume], "containers": [{"name": "web", "image": "nginx:1.27", "volumeMounts": [mount]}]}
    template = {"metadata": {"labels": labels, "annotations": {"pages": digest}}, "spec": pod}
    spec = {"replicas": site.spec.replicas, "selector": {"matchLabels": labels}, "template": template}
    name = {"name": site.key.name, "namespace": site.key.namespace}
    return Deployment.model_validate({"metadata": name, "spec": spec})


def websites(config: Config, **options: Unpack[ManagerOptions]) -> Manager:
    manager = Manager("websites", config, **options)
    its_pages = Watch(ConfigMap, references=lambda site: site.spec.pages)
    manager.add(Controller(Website, WebsiteReconciler(manager.client), owns=[Deployment], watches=[its_pages]))
    return manager


if __name__ == "__main__":
    run_program(websites, kinds=[Website])
