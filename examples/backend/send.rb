# An event and a message: `ruby examples/backend/send.rb "Hello"`.
#
# With the stock SDK (gem install pusher) this is
#
#     pusher = Pusher::Client.new(app_id: …, key: …, secret: …, host: …, port: …, use_tls: false)
#     pusher.trigger('user.2', 'App\Events\Greeting', { text: text })
#     pusher.post('/messaging/messages', { user_id: 1, to: …, text: text })
#
# Below is the same without any gem, as pusher.post does it.

require 'digest'
require 'json'
require 'net/http'
require 'openssl'

# A variable of the block PUSHER_… that the server printed.
def setting(name)
  value = ENV.fetch(name, '')
  advice = 'Save the block that begins with BROADCAST_CONNECTION=pusher as .env and load it: set -a; . ./.env; set +a'
  value.empty? ? abort("#{name} is not set. #{advice}") : value
end

def post(path, body)
  json = JSON.generate(body)
  path = "/apps/#{setting('PUSHER_APP_ID')}#{path}"
  # In the order of their names.
  query = URI.encode_www_form(
    auth_key: setting('PUSHER_APP_KEY'),
    auth_timestamp: Time.now.to_i,
    auth_version: '1.0',
    body_md5: Digest::MD5.hexdigest(json)
  )
  signature = OpenSSL::HMAC.hexdigest('SHA256', setting('PUSHER_APP_SECRET'), "POST\n#{path}\n#{query}")
  server = "#{setting('PUSHER_SCHEME')}://#{setting('PUSHER_HOST')}:#{setting('PUSHER_PORT')}"
  url = URI("#{server}#{path}?#{query}&auth_signature=#{signature}")
  answer = Net::HTTP.post(url, json, 'Content-Type' => 'application/json')
  abort answer.body unless answer.code == '200'
  JSON.parse(answer.body)
rescue SystemCallError, SocketError
  abort "No server answers at #{server}. Is it running?"
end

text = ARGV.fetch(0, 'Hello')

# An event: `data` is JSON in a string.
post('/events', name: 'App\Events\Greeting', channel: 'user.2', data: JSON.generate(text: text))

# The owners of the numbers; once is enough.
post('/messaging/phone_numbers',
     phone_numbers: [{ number: '+13125550100', user_id: 1 }, { number: '+13125550101', user_id: 2 }])
answer = post('/messaging/messages', user_id: 1, to: '(312) 555-0101', text: text)
puts answer['message']['status']
