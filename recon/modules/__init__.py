"""One LightningModule per problem: what is learned, by which loss."""
