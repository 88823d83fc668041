"""Evolution API v2, for both of its integrations: WhatsApp Web (Baileys) and Meta's Cloud API."""

from providers.events import WebhookEvent
from providers.evolution import instance, look_up, send, webhook
from providers.protocol import ProviderName


class Evolution:
    """`cloud`: the instance speaks to Meta; only reading statuses differs."""

    build_request = staticmethod(send.build_request)
    own_message_id = staticmethod(send.own_message_id)
    probe_request = staticmethod(instance.probe_request)
    read_response = staticmethod(send.read_response)
    verify = staticmethod(webhook.verify)
    redact = staticmethod(webhook.redact)
    connect_requests = staticmethod(instance.connect_requests)
    state_request = staticmethod(instance.state_request)
    webhook_requests = staticmethod(instance.webhook_requests)
    disconnect_requests = staticmethod(instance.disconnect_requests)
    delete_requests = staticmethod(instance.delete_requests)
    read_call = staticmethod(instance.read_call)
    look_up_request = staticmethod(look_up.look_up_request)
    read_look_up = staticmethod(look_up.read_look_up)

    def __init__(self, *, cloud: bool) -> None:
        self._cloud = cloud

    @property
    def name(self) -> ProviderName:
        return "evolution_cloud" if self._cloud else "evolution_web"

    def read_webhook(self, body: bytes) -> list[WebhookEvent]:
        return webhook.read_webhook(body, cloud=self._cloud)
