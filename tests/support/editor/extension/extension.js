// The debug type "debugpy": an editor that attaches connects to the address of the configuration.
"use strict";
const vscode = require("vscode");

exports.activate = (context) => {
  context.subscriptions.push(
    vscode.debug.registerDebugAdapterDescriptorFactory("debugpy", {
      createDebugAdapterDescriptor(session) {
        const { host, port } = session.configuration.connect;
        return new vscode.DebugAdapterServer(port, host);
      },
    }),
  );
};
