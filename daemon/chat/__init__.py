"""Acting from the chat: buttons, dialogs and the slash command. The rights are those of `operations`."""
