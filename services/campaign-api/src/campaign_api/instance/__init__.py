"""Instances: WhatsApp numbers on their providers."""
