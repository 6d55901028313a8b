"""Other trust domains' bundles: fetched from their endpoints, kept, refreshed; and our own, as others fetch it."""
