mod golden;
mod hostile;
mod rumours;
mod scenarios;
mod sim;
mod simulation;
