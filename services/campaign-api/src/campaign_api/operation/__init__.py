"""What people order across services: dead letters, holds, explanations."""
