// Every event of your rooms, once and in order. Install: see pom.xml, or the same two libraries in Gradle.
import java.io.IOException
import java.util.concurrent.TimeUnit.SECONDS
import kotlin.random.Random
import kotlinx.coroutines.*
import okhttp3.OkHttpClient
import okhttp3.Request

val client = OkHttpClient.Builder().readTimeout(30, SECONDS).build() // the bridge sends something every 15 s

suspend fun handle(event: String, data: String, cursor: String) = println("$event $data") // save the cursor, too
suspend fun token(refused: Boolean) = "none" // if the bridge refused the last one, return a new one

/** On Android: `repeatOnLifecycle(STARTED) { withContext(Dispatchers.IO) { listen(savedCursor) } }`. */
suspend fun listen(after: String = "now", url: String = "http://localhost:4003/sse?tenantId=tenant-1&legacy=false") {
  var (cursor, retryMs) = after to 2000L
  var (refused, failures) = false to 0
  while (true) {
    val request = Request.Builder().url(url).header("Accept", "text/event-stream").header("Last-Event-ID", cursor)
    try {
      client.newCall(request.header("Authorization", "Bearer ${token(refused)}").build()).execute().use { answer ->
        refused = answer.code == 401
        check(answer.code != 400 && answer.code != 403) { answer.body.string() } // to repeat the request does not help
        val fields = mutableMapOf("id" to cursor, "retry" to "$retryMs")
        for (line in generateSequence { answer.body.source().readUtf8Line() }) {
          currentCoroutineContext().ensureActive()
          if (": " in line) fields[line.substringBefore(": ")] = line.substringAfter(": ")
          val event = (if (line == "") fields.remove("event") else null) ?: continue // an empty line ends an event
          handle(event, fields.getValue("data"), fields.getValue("id")) // after bridge.reset, read the state
          refused = event == "bridge.error" && "\"code\":\"token_" in fields.getValue("data")
          cursor = fields.getValue("id")
          retryMs = fields.getValue("retry").toLong().also { failures = 0 }
        }
      }
    } catch (error: IOException) { println("reconnecting: $error") }
    delay(retryMs + Random.nextLong(1000L shl minOf(5, failures++)))
  }
}
fun main() = runBlocking(Dispatchers.IO) { listen() }
