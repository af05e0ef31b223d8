"""`robustboard attack` through the command line."""
