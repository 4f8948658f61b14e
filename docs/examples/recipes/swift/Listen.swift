// Every event of your rooms, once and in order. Install: nothing, it is Foundation (iOS 15, macOS 12 or newer).
import Foundation

struct Refused: Error { let status: Int }

func token(refused: Bool) async throws -> String { "none" } // if the bridge refused the last one, return a new one

/// In an app: `.task(id: scenePhase) { if scenePhase == .active { try? await listen(url, after: savedCursor) { … } } }`
func listen(_ url: URL, after: String = "now", handle: (String, String, String) async -> Void) async throws {
  var (cursor, retry, failures, refused) = (after, 2.0, 1.0, false)
  while true {
    do {
      var request = URLRequest(url: url, timeoutInterval: 30) // without a byte; the bridge sends something every 15 s
      request.setValue("text/event-stream", forHTTPHeaderField: "Accept")
      let bearer = try await token(refused: refused)
      request.setValue("Bearer \(bearer)", forHTTPHeaderField: "Authorization")
      request.setValue(cursor, forHTTPHeaderField: "Last-Event-ID")
      let (bytes, answer) = try await URLSession.shared.bytes(for: request)
      let status = (answer as? HTTPURLResponse)?.statusCode ?? 0
      refused = status == 401
      if status == 400 || status == 403 { throw Refused(status: status) } // to repeat the request does not help
      var (line, fields) = (Data(), ["id": cursor])
      for try await byte in bytes { // not bytes.lines, which leaves out the empty lines that end an event
        if byte != 10 { line.append(byte); continue }
        let parts = String(decoding: line, as: UTF8.self).components(separatedBy: ": ")
        line.removeAll()
        if parts.count > 1 { fields[parts[0]] = parts.dropFirst().joined(separator: ": "); continue }
        guard parts[0].isEmpty, let event = fields.removeValue(forKey: "event"), let data = fields["data"] else { continue }
        (cursor, retry, failures) = (fields["id"] ?? cursor, Double(fields["retry"] ?? "").map { $0 / 1000 } ?? retry, 1)
        refused = event == "bridge.error" && data.contains("\"code\":\"token_")
        await handle(event, data, cursor) // after bridge.reset, read the state: events are lost. Save the cursor
      }
    } catch let error as URLError where error.code != .cancelled { print("reconnecting:", error) }
    try await Task.sleep(nanoseconds: UInt64((retry + .random(in: 0...min(30, failures))) * 1e9))
    failures *= 2
  }
}
