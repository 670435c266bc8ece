mod golden;
mod hostile;
mod scenarios;
mod sim;
mod simulation;
