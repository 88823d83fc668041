"""WhatsApp Cloud API, spoken directly."""

from providers.meta_cloud import instance, send, webhook
from providers.protocol import ProviderName


class MetaCloud:
    name: ProviderName = "meta_cloud"
    build_request = staticmethod(send.build_request)
    own_message_id = staticmethod(send.own_message_id)
    probe_request = staticmethod(instance.probe_request)
    read_response = staticmethod(send.read_response)
    verify = staticmethod(webhook.verify)
    read_webhook = staticmethod(webhook.read_webhook)
    redact = staticmethod(webhook.redact)
    connect_requests = staticmethod(instance.connect_requests)
    state_request = staticmethod(instance.state_request)
    webhook_requests = staticmethod(instance.webhook_requests)
    disconnect_requests = staticmethod(instance.disconnect_requests)
    delete_requests = staticmethod(instance.delete_requests)
    read_call = staticmethod(instance.read_call)
    look_up_request = staticmethod(instance.look_up_request)
    read_look_up = staticmethod(instance.read_look_up)
