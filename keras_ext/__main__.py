"""`python -m keras_ext`, the same as the command `keras-ext`."""

from keras_ext_cli.main import main

if __name__ == "__main__":
    main()
