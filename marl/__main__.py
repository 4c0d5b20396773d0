from marl.cli.main import main

main()
