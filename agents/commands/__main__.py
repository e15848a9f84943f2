"""`python -m agents.commands` is `acis`, for launchers such as torchrun that start a module."""

from agents.commands.main import main

if __name__ == "__main__":
    main()
